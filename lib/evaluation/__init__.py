"""Scores and figures of a finished run; functions of arrays that show nothing by themselves."""
