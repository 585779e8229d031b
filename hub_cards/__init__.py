"""Cards and the Space for the Hugging Face Hub."""
