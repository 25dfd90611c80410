"""What makes the study readable and its data better: executed copies, label review, mistakes to open."""
