-- Documents. The change stream reads this table and the next from the write-ahead log.

-- Ids are UUIDv7: rows are appended in order, and lists go by id.
CREATE TABLE documents (
    id             uuid NOT NULL,
    title          text NOT NULL,
    content_type   text NOT NULL,
    content_size   bigint NOT NULL,
    content_sha256 text COLLATE "C" NOT NULL,
    s3_key         text NOT NULL,
    status         text COLLATE "C" NOT NULL DEFAULT 'created',
    created_by     text COLLATE "C" NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    version        integer NOT NULL DEFAULT 1,
    deleted_at     timestamptz,
    CONSTRAINT documents_pkey PRIMARY KEY (id),
    CONSTRAINT documents_title_length CHECK (char_length(title) BETWEEN 1 AND 500),
    CONSTRAINT documents_content_type_length CHECK (char_length(content_type) BETWEEN 1 AND 127),
    CONSTRAINT documents_content_size_range CHECK (content_size >= 0),
    CONSTRAINT documents_content_sha256_hex CHECK (content_sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT documents_s3_key_present CHECK (s3_key <> ''),
    CONSTRAINT documents_status_known CHECK (status IN ('created', 'viewed', 'signed')),
    CONSTRAINT documents_created_by_length CHECK (char_length(created_by) BETWEEN 1 AND 320),
    CONSTRAINT documents_version_positive CHECK (version >= 1)
);

-- Updates and deletes carry the row as it was, and columns kept out of line come whole.
ALTER TABLE documents REPLICA IDENTITY FULL;

-- Lists are over live rows. The status stands behind the creator, so that one index serves a
-- creator's documents of one status, and of all statuses as a merge of three ranges.
CREATE INDEX documents_live ON documents (id) WHERE deleted_at IS NULL;
CREATE INDEX documents_live_by_status ON documents (status, id) WHERE deleted_at IS NULL;
CREATE INDEX documents_live_by_creator ON documents (created_by, status, id)
    WHERE deleted_at IS NULL;

-- Whatever a writer says of them: the version goes up by one, and the time of the change doesn't go
-- back when the clock does. An id never changes.
CREATE FUNCTION documents_raise_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'the id of a document never changes'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'documents_id_fixed';
    END IF;
    NEW.version := OLD.version + 1;
    NEW.updated_at := greatest(OLD.updated_at, clock_timestamp());
    RETURN NEW;
END
$$;

CREATE TRIGGER documents_version BEFORE UPDATE ON documents
    FOR EACH ROW EXECUTE FUNCTION documents_raise_version();
