"""Images: any source to upright RGB pixels, and the facts of its file."""
