-- Bounds on what this role may leave behind in this database.
--
-- A connection that goes straight to the server sets tighter ones for itself. Through a pooler it
-- can't: what a session sets would stay with whichever server connection it happened to have, and
-- startup options are refused. Defaults of the role reach every server connection of the pooler.
-- They hold for replication and for people too, who may set others for their session; so most are
-- wide, and the program itself gives up on a statement long before. Not so on a lock: whoever is told
-- by the server that there was none knows that nothing was written. What somebody has set stays.
DO $$
DECLARE
    bound record;
BEGIN
    FOR bound IN
        SELECT * FROM (VALUES
            ('statement_timeout', '60s'),
            ('lock_timeout', '1s'),
            ('idle_in_transaction_session_timeout', '5min')
        ) AS bounds (name, value)
    LOOP
        IF NOT EXISTS (
            SELECT FROM pg_db_role_setting AS settings, unnest(settings.setconfig) AS setting
            WHERE settings.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
                AND settings.setdatabase IN (
                    0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                AND starts_with(setting, bound.name || '=')
        ) THEN
            EXECUTE format('ALTER ROLE %I IN DATABASE %I SET %I = %L',
                current_user, current_database(), bound.name, bound.value);
        END IF;
    END LOOP;
END
$$;
