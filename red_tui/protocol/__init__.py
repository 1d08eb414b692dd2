"""What supervisor, replay, link, console and fakes exchange: the one definition of it."""
