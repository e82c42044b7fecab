"""The few types, errors and rules that every other folder stands on."""
