//! Documents, signatures, texts, idempotency keys and dead letters in memory.
