"""The three stages with the Hugging Face Trainer: tokenizer, align, instruct."""
