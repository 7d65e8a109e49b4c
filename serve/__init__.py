"""A service that thinks before it answers: an OpenAI-compatible API over searches and streams, whose chains stay hidden."""
