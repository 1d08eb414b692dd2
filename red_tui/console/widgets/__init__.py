"""Parts of the screen: lines, lists, header, footer, notices and plots."""
