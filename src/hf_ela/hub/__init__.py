"""The Hugging Face Hub: everything to or from it. No other package imports `huggingface_hub`."""
