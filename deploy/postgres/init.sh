#!/bin/sh
# The role and the database of the services. The PostgreSQL image runs it once, on an empty data
# folder; the native stack runs it at every start. It changes nothing that is there already, except
# that the password becomes the one given.
#
# DOCS_PASSWORD or DOCS_PASSWORD_FILE; DOCS_ROLE_OPTIONS for more rights (tests make databases of
# their own: CREATEDB); connection by the usual PG* variables, as a superuser.
set -eu

DOCS_PASSWORD=${DOCS_PASSWORD:-$(cat "${DOCS_PASSWORD_FILE:?names the file of the password of docs}")}
export DOCS_PASSWORD

# psql takes the password from its environment: arguments are visible to other users of the machine.
psql -X -q -v ON_ERROR_STOP=1 -v options="${DOCS_ROLE_OPTIONS:-}" -U "${POSTGRES_USER:-postgres}" \
    -d postgres << 'SQL'
\getenv password DOCS_PASSWORD
-- A statement that fails or is slow would be logged, with the password.
SET log_min_error_statement = panic;
SET log_min_duration_statement = -1;
SELECT 'CREATE ROLE docs' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'docs') \gexec
-- REPLICATION reads the change stream; publication and slot belong to the role, so that nothing
-- needs a superuser later.
ALTER ROLE docs LOGIN REPLICATION :options PASSWORD :'password';
SELECT 'CREATE DATABASE docs_db OWNER docs ENCODING ''UTF8'' TEMPLATE template0'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'docs_db') \gexec
SQL
