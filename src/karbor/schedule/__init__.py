"""The operation schedule service: triggers and what is done when they fire."""
