"""The routes: what clients of OpenAI's API send, and what they get."""
