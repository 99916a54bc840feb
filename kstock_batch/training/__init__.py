"""Splits, evaluation and the weekly retrain."""
