//! A clock that is set by hand, tokens from a list, documents of a pretended other service.
