-- +goose Up
CREATE VIEW current_consents AS
SELECT DISTINCT ON (c.profile_id, c.document_id)
    c.profile_id, d.code, d.version, c.decision, c.decided_at
FROM consents AS c
JOIN consent_documents AS d ON d.id = c.document_id
ORDER BY c.profile_id, c.document_id, c.decided_at DESC;

-- +goose Down
DROP VIEW IF EXISTS current_consents;
