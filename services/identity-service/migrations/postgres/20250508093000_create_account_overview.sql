-- +goose Up
CREATE VIEW account_overview AS
SELECT
    a.id,
    a.handle,
    a.status,
    (SELECT i.value FROM identities AS i WHERE i.account_id = a.id AND i.kind = 'email' AND i.is_primary) AS primary_email,
    (SELECT count(*) FROM devices AS d WHERE d.account_id = a.id AND d.trusted_at IS NOT NULL) AS trusted_devices,
    a.created_at
FROM accounts AS a
WHERE a.status <> 'closed';

-- +goose Down
DROP VIEW IF EXISTS account_overview;
