"""The leak audit: whether files give the class away."""
