-- Signatures. One address signs a document once, whatever the case of its letters.
CREATE TABLE signatures (
    id                 uuid NOT NULL,
    document_id        uuid NOT NULL,
    signer_email       text NOT NULL,
    signer_name        text NOT NULL,
    image_key          text NOT NULL,
    image_content_type text NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    -- Whether the document has been told. Until then the reconciler looks after the row.
    status_applied     boolean NOT NULL DEFAULT FALSE,
    CONSTRAINT signatures_pkey PRIMARY KEY (id),
    CONSTRAINT signatures_document_exists FOREIGN KEY (document_id) REFERENCES documents (id),
    CONSTRAINT signatures_signer_email_length CHECK (char_length(signer_email) BETWEEN 1 AND 320),
    CONSTRAINT signatures_signer_name_length CHECK (char_length(signer_name) BETWEEN 1 AND 200),
    CONSTRAINT signatures_image_key_present CHECK (image_key <> ''),
    CONSTRAINT signatures_image_content_type_length
        CHECK (char_length(image_content_type) BETWEEN 1 AND 127)
);

ALTER TABLE signatures REPLICA IDENTITY FULL;

-- With the collation, lower() touches ASCII letters only.
CREATE UNIQUE INDEX signatures_once_per_address
    ON signatures (document_id, lower(signer_email COLLATE "C"));

CREATE INDEX signatures_pending ON signatures (created_at, id) WHERE NOT status_applied;

-- What the change stream carries. Somebody may have made the publication beforehand.
DO $$
DECLARE
    published text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'cdc') THEN
        CREATE PUBLICATION cdc;
    END IF;
    FOREACH published IN ARRAY ARRAY['documents', 'signatures'] LOOP
        IF NOT EXISTS (
            SELECT FROM pg_publication_tables
            WHERE pubname = 'cdc' AND schemaname = current_schema() AND tablename = published
        ) THEN
            EXECUTE format('ALTER PUBLICATION cdc ADD TABLE %I', published);
        END IF;
    END LOOP;
END
$$;
