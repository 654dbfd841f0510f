"""What a user looks at: sizes, speeds, what is left, tables and pictures."""
