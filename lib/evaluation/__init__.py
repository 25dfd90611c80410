"""Scores, figures and tables of finished runs; nothing here is shown or written unless asked for."""
