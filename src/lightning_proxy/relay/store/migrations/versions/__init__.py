"""In their order; what was released is never changed again."""
