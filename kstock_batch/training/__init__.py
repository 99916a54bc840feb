"""Splits, metrics, evaluation and the weekly retrain."""
