"""Three stages with the Hugging Face Trainer (tokenizer, align, instruct), and evaluate."""
