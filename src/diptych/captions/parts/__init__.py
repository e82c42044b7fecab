"""What rewriters are made of: rules on English captions, and files of rewrites."""
