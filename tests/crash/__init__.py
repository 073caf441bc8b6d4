"""Killing whatever writes a store, at a call or at an instant, as often as it takes."""
