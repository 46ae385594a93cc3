-- Makes many operations of few: each one in the ledger is copied :finished times if it has
-- ended, else :waiting times, in every table that has a row of it, whatever its columns.
-- Only what tells operations apart differs: place, id and times, 20 µs from one to the next.
\set ON_ERROR_STOP on
BEGIN;

-- Version 7 of RFC 9562, with the number of the ledger in octet 9.
CREATE FUNCTION pg_temp.id_of(micros bigint, ledger bigint) RETURNS bytea LANGUAGE sql AS $$
    SELECT set_byte(set_byte(octets, 6, get_byte(octets, 6) & 15 | 112), 9, ledger::int)
    FROM (SELECT overlay(uuid_send(gen_random_uuid())
                 PLACING substring(int8send(micros / 1000) FROM 3) FROM 1) AS octets) AS random
$$;

-- How a column of a copy is made of that of the template.
CREATE FUNCTION pg_temp.cell(name text) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN name IN ('seq', 'id') THEN format('copy.%I', name)
                WHEN name ~ '(^|_)at$' THEN format('template.%I + copy.later', name)
                ELSE format('template.%I', name) END
$$;

CREATE FUNCTION pg_temp.copied(template bigint, copies bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE kind record;
BEGIN
    CREATE TEMP TABLE copy ON COMMIT DROP AS
        SELECT nextval('operations_order') AS seq, pg_temp.id_of(accepted_at + later, number) AS id, later
        FROM (SELECT (n - copies) * 20 AS later FROM generate_series(1, copies) AS n) AS series,
             (SELECT accepted_at FROM operations WHERE seq = template) AS of, ledger;
    FOR kind IN
        SELECT table_name AS name, string_agg(format('%I', column_name), ', ') AS names,
               string_agg(pg_temp.cell(column_name), ', ') AS cells
        FROM information_schema.columns AS every
        WHERE table_schema = 'public' AND EXISTS (SELECT FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name = every.table_name AND column_name = 'seq')
        GROUP BY table_name
    LOOP
        EXECUTE format('INSERT INTO %I (%s) SELECT %s FROM %I AS template CROSS JOIN copy '
            'WHERE template.seq = $1 ORDER BY copy.seq', kind.name, kind.names, kind.cells, kind.name)
            USING template;
    END LOOP;
    DROP TABLE copy;
END
$$;

CREATE TEMP TABLE templates ON COMMIT DROP AS SELECT seq, EXISTS (
    SELECT FROM outcomes WHERE outcomes.seq = operations.seq) AS ended FROM operations;
SELECT pg_temp.copied(seq, CASE WHEN ended THEN :finished ELSE :waiting END) FROM templates;
COMMIT;
-- As a database is that has held them for a while.
VACUUM (FREEZE, ANALYZE);
CHECKPOINT;
