"""Between requests and searches: a bounded queue, and one thread that gathers all that is open into common waves."""
