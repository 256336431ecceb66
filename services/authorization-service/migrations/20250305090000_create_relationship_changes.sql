-- +goose Up

-- Caches follow this table by revision instead of reading all tuples again. It is written by a trigger so
-- that a tuple and its change are committed together or not at all.
CREATE TABLE relationship_changes (
    revision BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation TEXT NOT NULL,
    object_type TEXT NOT NULL,
    object_id TEXT NOT NULL,
    relation TEXT NOT NULL,
    subject TEXT NOT NULL,
    changed_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT relationship_changes_operation_is_known CHECK (operation IN ('insert', 'delete'))
);

-- +goose StatementBegin
CREATE FUNCTION record_relationship_change()
RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
  tuple relationship_tuples;
BEGIN
  tuple = CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
  INSERT INTO relationship_changes (operation, object_type, object_id, relation, subject)
  VALUES (
    lower(TG_OP), tuple.object_type, tuple.object_id, tuple.relation,
    tuple.subject_type || ':' || tuple.subject_id || CASE tuple.subject_relation WHEN '' THEN '' ELSE '#' || tuple.subject_relation END
  );
  RETURN NULL;
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER relationship_tuples_record_change
    AFTER INSERT OR DELETE ON relationship_tuples
    FOR EACH ROW EXECUTE FUNCTION record_relationship_change();

-- +goose Down
DROP TRIGGER IF EXISTS relationship_tuples_record_change ON relationship_tuples;
DROP FUNCTION IF EXISTS record_relationship_change();
DROP TABLE IF EXISTS relationship_changes;
