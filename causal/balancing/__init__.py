"""Weighters that make treatment groups comparable."""
