"""The published file: what it holds, how it is verified, replaced, kept and put back."""
