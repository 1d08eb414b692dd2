"""The console's end of the link: the process, the connection and the copy of the federation."""
