-- Documents and the log of their changes.
--
-- The change log is the only way in which anybody learns of a write: the search index, the caches
-- and the open browsers follow it. So the database itself writes it, by triggers, and refuses what
-- would get round them, whoever writes: this product, or somebody with the sqlite3 shell.

CREATE TABLE change_log (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    entity       TEXT NOT NULL CHECK (entity IN ('document', 'signature')),
    operation    TEXT NOT NULL CHECK (operation IN ('create', 'update', 'delete')),
    before       TEXT,
    after        TEXT,
    committed_at TEXT NOT NULL
) STRICT;

-- How far each consumer of the log has come. What all of them have seen may be trimmed.
CREATE TABLE change_consumers (
    consumer     TEXT PRIMARY KEY,
    acknowledged INTEGER NOT NULL,
    updated_at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Without a rowid, because a statement that says OR REPLACE may remove another row for the sake of
-- its rowid, and no trigger could see that. Ids are UUIDv7: rows are appended in order.
--
-- Timestamps are RFC 3339 in UTC with microseconds, so that they sort as text.
CREATE TABLE documents (
    id             TEXT NOT NULL PRIMARY KEY
                   CHECK (id GLOB '????????-????-????-????-????????????' AND id NOT GLOB '*[^0-9a-f-]*'),
    title          TEXT NOT NULL CHECK (length(title) BETWEEN 1 AND 500),
    content_type   TEXT NOT NULL CHECK (length(content_type) BETWEEN 1 AND 127),
    content_size   INTEGER NOT NULL CHECK (content_size >= 0),
    content_sha256 TEXT NOT NULL
                   CHECK (length(content_sha256) = 64 AND content_sha256 NOT GLOB '*[^0-9a-f]*'),
    s3_key         TEXT NOT NULL CHECK (s3_key <> ''),
    status         TEXT NOT NULL DEFAULT 'created'
                   CHECK (status IN ('created', 'viewed', 'signed')),
    created_by     TEXT NOT NULL CHECK (length(created_by) BETWEEN 1 AND 320),
    created_at     TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    updated_at     TEXT NOT NULL CHECK (updated_at GLOB '????-??-??T??:??:??.??????Z'),
    version        INTEGER NOT NULL DEFAULT 1 CHECK (version BETWEEN 1 AND 2147483647),
    deleted_at     TEXT CHECK (deleted_at GLOB '????-??-??T??:??:??.??????Z')
) STRICT, WITHOUT ROWID;

-- Lists go by id, newest first, over live rows. The status stands behind the creator, so that one
-- index serves a creator's documents of one status, and of all statuses as a merge of three ranges.
CREATE INDEX documents_live ON documents (id) WHERE deleted_at IS NULL;
CREATE INDEX documents_live_by_status ON documents (status, id) WHERE deleted_at IS NULL;
CREATE INDEX documents_live_by_creator ON documents (created_by, status, id)
    WHERE deleted_at IS NULL;

-- INSERT OR REPLACE would remove the row that is there without a word in the log.
CREATE TRIGGER documents_insert_guard BEFORE INSERT ON documents
WHEN EXISTS (SELECT 1 FROM documents WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'documents.already_exists');
END;

CREATE TRIGGER documents_insert_log AFTER INSERT ON documents
BEGIN
    INSERT INTO change_log (entity, operation, before, after, committed_at)
    VALUES (
        'document', 'create', NULL,
        json_object(
            'id', NEW.id, 'title', NEW.title, 'content_type', NEW.content_type,
            'content_size', NEW.content_size, 'content_sha256', NEW.content_sha256,
            's3_key', NEW.s3_key, 'status', NEW.status, 'created_by', NEW.created_by,
            'created_at', NEW.created_at, 'updated_at', NEW.updated_at, 'version', NEW.version,
            'deleted', json(iif(NEW.deleted_at IS NULL, 'false', 'true'))),
        NEW.updated_at);
END;

-- A version is raised by one or left alone (then it is raised below); an id never changes.
CREATE TRIGGER documents_update_guard BEFORE UPDATE ON documents
WHEN NEW.version NOT IN (OLD.version, OLD.version + 1) OR NEW.id <> OLD.id
BEGIN
    SELECT RAISE(ABORT, 'documents.version_or_id_fixed');
END;

-- The product's own statements raise the version themselves: one write and one row of the log.
--
-- When the trigger after this one raises the version, it has logged the change already, as the row
-- was before the statement; that is the newest row of the log then.
CREATE TRIGGER documents_update_log AFTER UPDATE ON documents
WHEN NEW.version = OLD.version + 1
    AND NOT EXISTS (
        SELECT 1 FROM change_log
        WHERE seq = (SELECT max(seq) FROM change_log)
            AND entity = 'document'
            AND after ->> '$.id' = NEW.id
            AND after ->> '$.version' = NEW.version)
BEGIN
    INSERT INTO change_log (entity, operation, before, after, committed_at)
    VALUES (
        'document', 'update',
        json_object(
            'id', OLD.id, 'title', OLD.title, 'content_type', OLD.content_type,
            'content_size', OLD.content_size, 'content_sha256', OLD.content_sha256,
            's3_key', OLD.s3_key, 'status', OLD.status, 'created_by', OLD.created_by,
            'created_at', OLD.created_at, 'updated_at', OLD.updated_at, 'version', OLD.version,
            'deleted', json(iif(OLD.deleted_at IS NULL, 'false', 'true'))),
        json_object(
            'id', NEW.id, 'title', NEW.title, 'content_type', NEW.content_type,
            'content_size', NEW.content_size, 'content_sha256', NEW.content_sha256,
            's3_key', NEW.s3_key, 'status', NEW.status, 'created_by', NEW.created_by,
            'created_at', NEW.created_at, 'updated_at', NEW.updated_at, 'version', NEW.version,
            'deleted', json(iif(NEW.deleted_at IS NULL, 'false', 'true'))),
        NEW.updated_at);
END;

-- Whoever forgets the version gets it raised, and the time of the change set.
CREATE TRIGGER documents_update_version AFTER UPDATE ON documents
WHEN NEW.version = OLD.version
BEGIN
    INSERT INTO change_log (entity, operation, before, after, committed_at)
    VALUES (
        'document', 'update',
        json_object(
            'id', OLD.id, 'title', OLD.title, 'content_type', OLD.content_type,
            'content_size', OLD.content_size, 'content_sha256', OLD.content_sha256,
            's3_key', OLD.s3_key, 'status', OLD.status, 'created_by', OLD.created_by,
            'created_at', OLD.created_at, 'updated_at', OLD.updated_at, 'version', OLD.version,
            'deleted', json(iif(OLD.deleted_at IS NULL, 'false', 'true'))),
        json_object(
            'id', NEW.id, 'title', NEW.title, 'content_type', NEW.content_type,
            'content_size', NEW.content_size, 'content_sha256', NEW.content_sha256,
            's3_key', NEW.s3_key, 'status', NEW.status, 'created_by', NEW.created_by,
            'created_at', NEW.created_at,
            'updated_at', iif(NEW.updated_at = OLD.updated_at,
                strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'), NEW.updated_at),
            'version', NEW.version + 1,
            'deleted', json(iif(NEW.deleted_at IS NULL, 'false', 'true'))),
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'));
    UPDATE documents
    SET version = NEW.version + 1,
        updated_at = iif(NEW.updated_at = OLD.updated_at,
            strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'), NEW.updated_at)
    WHERE id = NEW.id;
END;

-- The product deletes by setting deleted_at. A row that is removed all the same is logged.
CREATE TRIGGER documents_delete_log AFTER DELETE ON documents
BEGIN
    INSERT INTO change_log (entity, operation, before, after, committed_at)
    VALUES (
        'document', 'delete',
        json_object(
            'id', OLD.id, 'title', OLD.title, 'content_type', OLD.content_type,
            'content_size', OLD.content_size, 'content_sha256', OLD.content_sha256,
            's3_key', OLD.s3_key, 'status', OLD.status, 'created_by', OLD.created_by,
            'created_at', OLD.created_at, 'updated_at', OLD.updated_at, 'version', OLD.version,
            'deleted', json(iif(OLD.deleted_at IS NULL, 'false', 'true'))),
        NULL, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'));
END;
