-- +goose Up

-- object#relation@subject, as in Zanzibar. Hash partitions keep each index small enough to stay in memory
-- and spread the writes of a single busy namespace.
CREATE TABLE relationship_tuples (
    object_type TEXT NOT NULL,
    object_id TEXT NOT NULL,
    relation TEXT NOT NULL,
    subject_type TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    -- Set when the subject is itself a set: everybody who has this relation to the subject.
    subject_relation TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    PRIMARY KEY (object_type, object_id, relation, subject_type, subject_id, subject_relation)
) PARTITION BY HASH (object_type, object_id);

-- +goose StatementBegin
DO $$
DECLARE
  partitions CONSTANT integer = 4;
BEGIN
  FOR remainder IN 0 .. partitions - 1 LOOP
    EXECUTE format(
      'CREATE TABLE relationship_tuples_p%s PARTITION OF relationship_tuples FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
      remainder, partitions, remainder
    );
  END LOOP;
END;
$$;
-- +goose StatementEnd

-- The reverse question: what may this subject reach?
CREATE INDEX relationship_tuples_subject_idx ON relationship_tuples (subject_type, subject_id, relation);

-- +goose Down
DROP TABLE IF EXISTS relationship_tuples;
