"""Where what must outlive the server is kept: the journal and the files of large payloads."""
