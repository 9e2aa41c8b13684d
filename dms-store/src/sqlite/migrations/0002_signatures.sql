-- Signatures. One address signs a document once, whatever the case of its letters.

CREATE TABLE signatures (
    id                 TEXT NOT NULL PRIMARY KEY
                       CHECK (id GLOB '????????-????-????-????-????????????' AND id NOT GLOB '*[^0-9a-f-]*'),
    document_id        TEXT NOT NULL REFERENCES documents (id),
    signer_email       TEXT NOT NULL CHECK (length(signer_email) BETWEEN 1 AND 320),
    signer_name        TEXT NOT NULL CHECK (length(signer_name) BETWEEN 1 AND 200),
    image_key          TEXT NOT NULL CHECK (image_key <> ''),
    image_content_type TEXT NOT NULL CHECK (length(image_content_type) BETWEEN 1 AND 127),
    created_at         TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    -- Whether the document has been told. Until then the reconciler looks after the row.
    status_applied     INTEGER NOT NULL DEFAULT 0 CHECK (status_applied IN (0, 1)),
    UNIQUE (document_id, signer_email COLLATE NOCASE)
) STRICT, WITHOUT ROWID;

CREATE INDEX signatures_pending ON signatures (created_at, id) WHERE status_applied = 0;

-- As for documents: nothing is replaced behind the log's back.
CREATE TRIGGER signatures_insert_guard BEFORE INSERT ON signatures
BEGIN
    SELECT RAISE(ABORT, 'signatures.already_exists')
    WHERE EXISTS (SELECT 1 FROM signatures WHERE id = NEW.id);
    SELECT RAISE(ABORT, 'signatures.already_signed')
    WHERE EXISTS (
        SELECT 1 FROM signatures
        WHERE document_id = NEW.document_id
            AND signer_email = NEW.signer_email COLLATE NOCASE);
END;

CREATE TRIGGER signatures_update_guard BEFORE UPDATE OF id, document_id, signer_email ON signatures
BEGIN
    SELECT RAISE(ABORT, 'signatures.id_fixed') WHERE NEW.id <> OLD.id;
    SELECT RAISE(ABORT, 'signatures.already_signed')
    WHERE EXISTS (
        SELECT 1 FROM signatures
        WHERE document_id = NEW.document_id
            AND signer_email = NEW.signer_email COLLATE NOCASE
            AND id <> OLD.id);
END;

CREATE TRIGGER signatures_insert_log AFTER INSERT ON signatures
BEGIN
    INSERT INTO change_log (entity, operation, before, after, committed_at)
    VALUES (
        'signature', 'create', NULL,
        json_object(
            'id', NEW.id, 'document_id', NEW.document_id, 'signer_email', NEW.signer_email,
            'signer_name', NEW.signer_name, 'created_at', NEW.created_at),
        NEW.created_at);
END;

-- Telling the document is no change of the signature: no consumer of the log wants to know.
CREATE TRIGGER signatures_update_log
AFTER UPDATE OF id, document_id, signer_email, signer_name, image_key, image_content_type, created_at
ON signatures
BEGIN
    INSERT INTO change_log (entity, operation, before, after, committed_at)
    VALUES (
        'signature', 'update',
        json_object(
            'id', OLD.id, 'document_id', OLD.document_id, 'signer_email', OLD.signer_email,
            'signer_name', OLD.signer_name, 'created_at', OLD.created_at),
        json_object(
            'id', NEW.id, 'document_id', NEW.document_id, 'signer_email', NEW.signer_email,
            'signer_name', NEW.signer_name, 'created_at', NEW.created_at),
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'));
END;

CREATE TRIGGER signatures_delete_log AFTER DELETE ON signatures
BEGIN
    INSERT INTO change_log (entity, operation, before, after, committed_at)
    VALUES (
        'signature', 'delete',
        json_object(
            'id', OLD.id, 'document_id', OLD.document_id, 'signer_email', OLD.signer_email,
            'signer_name', OLD.signer_name, 'created_at', OLD.created_at),
        NULL, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'));
END;
