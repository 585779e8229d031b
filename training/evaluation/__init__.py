"""What a trained model is worth: metrics of text and motion, results, report."""
