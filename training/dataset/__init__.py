"""Data sets of motion and text: reading, augmentation, collators, streams, kept encodings; `build/` makes them."""
