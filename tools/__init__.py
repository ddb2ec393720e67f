"""What makes the project's packages; nothing here is part of them."""
