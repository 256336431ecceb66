-- +goose Up

-- Materialized: every request asks this question, and roles change a few times a day. The unique index is
-- what lets it be refreshed concurrently.
CREATE MATERIALIZED VIEW effective_permissions AS
WITH RECURSIVE lineage AS (
    SELECT id AS role_id, id AS ancestor_id, parent_id FROM roles
    UNION ALL
    SELECT l.role_id, r.id, r.parent_id FROM lineage AS l JOIN roles AS r ON r.id = l.parent_id
)
SELECT DISTINCT l.role_id, p.resource, p.action
FROM lineage AS l
JOIN role_permissions AS rp ON rp.role_id = l.ancestor_id
JOIN permissions AS p ON p.id = rp.permission_id;

CREATE UNIQUE INDEX effective_permissions_key ON effective_permissions (role_id, resource, action);

-- +goose StatementBegin
CREATE FUNCTION has_permission(subject TEXT, wanted_resource TEXT, wanted_action TEXT, at_scope TEXT)
RETURNS boolean
LANGUAGE sql
STABLE
AS $$
  SELECT EXISTS (
    SELECT 1
    FROM role_bindings AS b
    JOIN effective_permissions AS e ON e.role_id = b.role_id
    WHERE b.subject_id = subject
      AND e.resource = wanted_resource
      AND e.action = wanted_action
      AND (b.expires_at IS NULL OR b.expires_at > now())
      AND (b.scope = '' OR b.scope = at_scope OR starts_with(at_scope, b.scope || '/'))
  );
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION IF EXISTS has_permission(TEXT, TEXT, TEXT, TEXT);
DROP MATERIALIZED VIEW IF EXISTS effective_permissions;
