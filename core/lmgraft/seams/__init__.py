"""The seams: one module each, with its protocol, its value types and its rules. Nothing heavy is imported here."""
