-- Makes the application's role, database and schema where they are absent: `poolwatch init`, for psql.
--
-- Meant for the first start of PostgreSQL's container: mount this file into /docker-entrypoint-initdb.d/. It may be run
-- again at any time, by a superuser: psql -X -f init.sql. `poolwatch init --print-sql` prints it; its flags change the
-- three lines below.
--
-- The password is sent to PostgreSQL in one statement, with that session's logging off, and PostgreSQL makes the
-- SCRAM-SHA-256 verifier of it. Where that is too much, put the verifier itself into the file of the password.
-- `poolwatch init` computes it and never sends the password.

-- required, optional or off: an extension that the server lacks is an error, is left out, is not asked for.
\set vector required
-- empty, cascade or keep: public is removed if it holds nothing (else: an error), with all that it holds, or stays.
\set drop_public empty
-- on or off: whether the role and the schema that poolwatch itself uses are made too.
\set sidecar off

\set ON_ERROR_STOP on
\set QUIET on

-- Who and what: the first file of secrets that is there, then the variable or the file that it names, then a default.
\set db_user `for f in /run/secrets/poolwatch-user /var/run/secrets/poolwatch-user /run/secrets/letta-user /var/run/secrets/letta-user; do [ -s "$f" ] && cat "$f" && exit; done; [ -n "$POSTGRES_USER" ] && printf %s "$POSTGRES_USER" && exit; [ -n "$POSTGRES_USER_FILE" ] && cat "$POSTGRES_USER_FILE" && exit; printf %s letta`
\set db_password `for f in /run/secrets/poolwatch-password /var/run/secrets/poolwatch-password /run/secrets/letta-password /var/run/secrets/letta-password; do [ -s "$f" ] && cat "$f" && exit; done; [ -n "$POSTGRES_PASSWORD" ] && printf %s "$POSTGRES_PASSWORD" && exit; [ -n "$POSTGRES_PASSWORD_FILE" ] && cat "$POSTGRES_PASSWORD_FILE" && exit; :`
\set db_name `for f in /run/secrets/poolwatch-db /var/run/secrets/poolwatch-db /run/secrets/letta-db /var/run/secrets/letta-db; do [ -s "$f" ] && cat "$f" && exit; done; [ -n "$POSTGRES_DB" ] && printf %s "$POSTGRES_DB" && exit; [ -n "$POSTGRES_DB_FILE" ] && cat "$POSTGRES_DB_FILE" && exit; :`
SELECT :'db_name' = '' AS no_name \gset
\if :no_name
  \set db_name :db_user
\endif

SET search_path TO pg_catalog;
SET client_min_messages TO warning;
-- Kept for the blocks below, which psql does not look into.
SELECT set_config('poolwatch.role', :'db_user', false) AS role, set_config('poolwatch.database', :'db_name', false) AS database \gset
SELECT octet_length(:'db_user') > 63 OR octet_length(:'db_name') > 63 OR lower(:'db_name') ~ '^pg_' OR lower(:'db_user') ~ '^pg_'
  OR lower(:'db_name') IN ('public', 'none', 'template0', 'template1', 'information_schema') OR lower(:'db_user') IN ('public', 'none')
  AS unfit \gset
\if :unfit
  DO $$BEGIN RAISE EXCEPTION 'role "%" or database "%": longer than 63 bytes, or a name that PostgreSQL keeps for itself',
    current_setting('poolwatch.role'), current_setting('poolwatch.database'); END$$;
\endif

-- One at a time, whoever runs it: the same lock that poolwatch takes, here and in the database.
SELECT count(*) AS locked FROM pg_advisory_lock(8101816766312838243) \gset

-- What forbids to begin.
SELECT pg_is_in_recovery() AS standby \gset
\if :standby
  DO $$BEGIN RAISE EXCEPTION 'the server is a read-only standby: connect to its primary'; END$$;
\endif
SELECT :'vector' = 'required' AND NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS no_vector \gset
\if :no_vector
  DO $$BEGIN RAISE EXCEPTION 'the server has no extension "vector" (pgvector)'
    USING HINT = 'Install it there (image: pgvector/pgvector), or print this script with --vector optional or --vector off.'; END$$;
\endif
SELECT EXISTS (SELECT FROM pg_database WHERE datname = :'db_name' AND pg_encoding_to_char(encoding) <> 'UTF8') AS not_utf8 \gset
\if :not_utf8
  DO $$BEGIN RAISE EXCEPTION 'the database "%" exists with another encoding than UTF8', current_setting('poolwatch.database'); END$$;
\endif
SELECT :'sidecar' = 'on' AS with_sidecar, :'sidecar' = 'on' AND 'poolwatch' IN (:'db_user', :'db_name') AS taken \gset
\if :taken
  DO $$BEGIN RAISE EXCEPTION '"poolwatch" is what poolwatch calls its own role and schema: name the application''s otherwise'; END$$;
\endif

-- The role. What is there stays, its password too.
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'db_user') AS no_role \gset
SELECT :'no_role'::boolean AND :'db_password' = '' AS default_password \gset
\if :default_password
  SELECT :'HOST' !~ '^(/.*|127(\.[0-9]+){3}|::1|localhost|)$' AS remote \gset
  \if :remote
    DO $$BEGIN RAISE EXCEPTION 'the role "%" would get the default password, and the server is not on this machine',
      current_setting('poolwatch.role') USING HINT = 'Give one in /run/secrets/poolwatch-password or POSTGRES_PASSWORD.'; END$$;
  \endif
  \warn 'warning: no password is given: the role gets the default one, which everybody knows'
  \set db_password letta
\endif
BEGIN;
SELECT rolsuper AS superuser FROM pg_roles WHERE rolname = current_user \gset
\if :no_role
  -- The statement with the password is not to be found in a log.
  \if :superuser
    SET LOCAL log_statement TO none;
    SET LOCAL log_min_duration_statement TO -1;
    SET LOCAL log_min_error_statement TO panic;
    SET LOCAL pg_stat_statements.track_utility TO off;
  \endif
  SET LOCAL password_encryption TO 'scram-sha-256';
  CREATE ROLE :"db_user" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'db_password';
\endif
SELECT NOT pg_has_role(current_user, :'db_user', 'USAGE') AS no_member \gset
\if :no_member
  GRANT :"db_user" TO CURRENT_USER;
\endif
\if :with_sidecar
  SELECT 'CREATE ROLE poolwatch NOLOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'poolwatch') \gexec
  SELECT 'GRANT pg_monitor TO poolwatch' WHERE NOT EXISTS (SELECT FROM pg_auth_members
    WHERE roleid = 'pg_monitor'::regrole AND member = (SELECT oid FROM pg_roles WHERE rolname = 'poolwatch')) \gexec
  SELECT format('GRANT poolwatch TO %I', :'db_user') WHERE NOT EXISTS (SELECT FROM pg_auth_members
    WHERE roleid = (SELECT oid FROM pg_roles WHERE rolname = 'poolwatch')
    AND member = (SELECT oid FROM pg_roles WHERE rolname = :'db_user')) \gexec
\endif
COMMIT;

-- The database. Of template0, because only that one takes another encoding than its own.
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' TEMPLATE template0', :'db_name', :'db_user')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'db_name') \gexec

\connect -reuse-previous=on :"db_name"
SET search_path TO pg_catalog;
SET client_min_messages TO warning;
SELECT count(*) AS locked FROM pg_advisory_lock(8101816766312838243) \gset

-- All that is in the database, or nothing.
BEGIN;
-- Everybody (PUBLIC) is shut out once, before the schema is there. What somebody grants later stays.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname) FROM pg_database
  WHERE datname = :'db_name' AND datacl IS NULL AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = :'db_name') \gexec
SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', d.datname, r.rolname) FROM pg_database d, pg_roles r
  WHERE d.datname = :'db_name' AND r.rolname = :'db_user' AND NOT r.rolsuper AND NOT EXISTS (
    SELECT FROM aclexplode(COALESCE(d.datacl, acldefault('d', d.datdba))) a
    WHERE a.grantee = r.oid AND a.privilege_type = 'CONNECT') \gexec
SELECT format('CREATE SCHEMA %I AUTHORIZATION %I', :'db_name', :'db_user')
  WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = :'db_name') \gexec
ALTER DATABASE :"db_name" SET search_path TO :"db_name";

SELECT format('ALTER EXTENSION vector SET SCHEMA %I', :'db_name') FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
  WHERE :'vector' <> 'off' AND e.extname = 'vector' AND n.nspname = 'public' \gexec
SELECT format('CREATE EXTENSION vector WITH SCHEMA %I', :'db_name')
  WHERE :'vector' <> 'off' AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')
  AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') \gexec

SELECT :'drop_public' = 'empty' AND EXISTS (SELECT FROM pg_depend d
  WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = (SELECT oid FROM pg_namespace WHERE nspname = 'public')
  AND d.deptype = 'n' AND NOT EXISTS (SELECT FROM pg_depend e
    WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')) AS public_in_use \gset
\if :public_in_use
  DO $$DECLARE objects text; BEGIN
    SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ') INTO objects FROM pg_depend d
      WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = 'public'::regnamespace
      AND d.deptype = 'n' AND NOT EXISTS (SELECT FROM pg_depend e
        WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e');
    RAISE EXCEPTION 'the schema public is not empty, so it is not removed; it holds %', objects
      USING HINT = 'Move that, or print this script with --drop-public=keep or --drop-public=cascade.';
  END$$;
\endif
SELECT 'DROP SCHEMA public ' || CASE :'drop_public' WHEN 'cascade' THEN 'CASCADE' ELSE 'RESTRICT' END
  WHERE :'drop_public' <> 'keep' AND EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public') \gexec

\if :with_sidecar
  SELECT NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'poolwatch') AS no_sidecar_schema \gset
  \if :no_sidecar_schema
    CREATE SCHEMA poolwatch AUTHORIZATION poolwatch;
    GRANT CONNECT ON DATABASE :"db_name" TO poolwatch;
  \endif
\endif
COMMIT;
