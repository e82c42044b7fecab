"""Methods that learn prompts: tokens that a tower reads beside its own."""
