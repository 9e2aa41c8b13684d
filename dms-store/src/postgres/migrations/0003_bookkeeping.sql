-- What stands beside the rows: texts, idempotency keys, dead letters. None of it is published.

-- Text taken out of content, once per content and format, so that nothing else reads the content
-- again. In UTF-8, as bytes: a text may hold U+0000, which the type text can't.
CREATE TABLE texts (
    content_sha256 text COLLATE "C" NOT NULL,
    format         text COLLATE "C" NOT NULL,
    text           bytea NOT NULL,
    CONSTRAINT texts_pkey PRIMARY KEY (content_sha256, format)
);

-- A key is held by a running request until it lapses, or completed, in the statement that made the
-- request's row.
CREATE TABLE idempotency_keys (
    scope          text COLLATE "C" NOT NULL,
    key            text COLLATE "C" NOT NULL,
    holder         uuid,
    held_until     timestamptz,
    request_sha256 text,
    resource_id    uuid,
    -- The resource as it was first answered, if that is kept.
    first_answer   jsonb,
    completed_at   timestamptz,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (scope, key),
    CONSTRAINT idempotency_keys_held_or_completed CHECK (
        CASE WHEN completed_at IS NULL THEN num_nonnulls(holder, held_until) = 2
        ELSE num_nonnulls(holder, held_until) = 0 AND num_nonnulls(request_sha256, resource_id) = 2
        END)
);

-- For forgetting the oldest.
CREATE INDEX idempotency_keys_completed ON idempotency_keys (completed_at)
    WHERE completed_at IS NOT NULL;
CREATE INDEX idempotency_keys_held ON idempotency_keys (held_until) WHERE completed_at IS NULL;

-- What a consumer couldn't take, in order of arrival.
CREATE TABLE dead_letters (
    seq        bigint GENERATED ALWAYS AS IDENTITY,
    consumer   text COLLATE "C" NOT NULL,
    position   text COLLATE "C" NOT NULL,
    key        text,
    raw        bytea NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT dead_letters_pkey PRIMARY KEY (seq),
    CONSTRAINT dead_letters_once UNIQUE (consumer, position)
);

CREATE INDEX dead_letters_by_consumer ON dead_letters (consumer, seq);
