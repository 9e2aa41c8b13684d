-- What stands beside the rows: texts, idempotency keys, dead letters. None of it is logged.

-- Text taken out of content, once per content and format, so that nothing else reads the content
-- again. Joined with documents by content_sha256.
CREATE TABLE texts (
    content_sha256 TEXT NOT NULL,
    format         TEXT NOT NULL,
    text           TEXT NOT NULL,
    PRIMARY KEY (content_sha256, format)
) STRICT;

-- Keys of requests that are done; written in the transaction of the row that the request made.
-- Keys of requests that are running are in memory: a crash ends the requests and frees the keys.
CREATE TABLE idempotency_keys (
    scope          TEXT NOT NULL,
    key            TEXT NOT NULL,
    request_sha256 TEXT NOT NULL,
    resource_id    TEXT NOT NULL,
    -- The resource as it was first answered, if that is kept.
    first_answer   TEXT CHECK (first_answer IS NULL OR json_valid(first_answer)),
    completed_at   TEXT NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT;

-- For forgetting the oldest.
CREATE INDEX idempotency_keys_completed ON idempotency_keys (completed_at);

-- What a consumer couldn't take, in order of arrival.
CREATE TABLE dead_letters (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer   TEXT NOT NULL,
    position   TEXT NOT NULL,
    key        TEXT,
    raw        BLOB NOT NULL,
    reason     TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (consumer, position)
) STRICT;

CREATE INDEX dead_letters_by_consumer ON dead_letters (consumer, seq);

-- A new row, its text and its idempotency key are one INSERT into one of these views: one statement
-- takes effect as a whole or not at all, and crosses to the database's thread once. Key and text may
-- be null. The views give no rows to anybody.
CREATE VIEW document_intake AS
SELECT
    id, title, content_type, content_size, content_sha256, s3_key, created_by, created_at,
    NULL AS text_sha256, NULL AS text_format, NULL AS text,
    NULL AS key_scope, NULL AS key, NULL AS request_sha256, NULL AS first_answer
FROM documents WHERE FALSE;

CREATE TRIGGER document_intake_insert INSTEAD OF INSERT ON document_intake
BEGIN
    INSERT INTO idempotency_keys
        (scope, key, request_sha256, resource_id, first_answer, completed_at)
    SELECT
        NEW.key_scope, NEW.key, NEW.request_sha256, NEW.id, NEW.first_answer, NEW.created_at
    WHERE NEW.key IS NOT NULL;

    INSERT INTO texts (content_sha256, format, text)
    SELECT NEW.text_sha256, NEW.text_format, NEW.text WHERE NEW.text IS NOT NULL
    ON CONFLICT (content_sha256, format) DO NOTHING;

    INSERT INTO documents
        (id, title, content_type, content_size, content_sha256, s3_key, created_by,
         created_at, updated_at)
    VALUES
        (NEW.id, NEW.title, NEW.content_type, NEW.content_size, NEW.content_sha256, NEW.s3_key,
         NEW.created_by, NEW.created_at, NEW.created_at);
END;

CREATE VIEW signature_intake AS
SELECT
    id, document_id, signer_email, signer_name, image_key, image_content_type, created_at,
    NULL AS key_scope, NULL AS key, NULL AS request_sha256
FROM signatures WHERE FALSE;

CREATE TRIGGER signature_intake_insert INSTEAD OF INSERT ON signature_intake
BEGIN
    INSERT INTO idempotency_keys (scope, key, request_sha256, resource_id, completed_at)
    SELECT NEW.key_scope, NEW.key, NEW.request_sha256, NEW.id, NEW.created_at
    WHERE NEW.key IS NOT NULL;

    INSERT INTO signatures
        (id, document_id, signer_email, signer_name, image_key, image_content_type, created_at)
    VALUES
        (NEW.id, NEW.document_id, NEW.signer_email, NEW.signer_name, NEW.image_key,
         NEW.image_content_type, NEW.created_at);
END;
