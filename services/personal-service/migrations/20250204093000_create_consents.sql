-- +goose Up
CREATE TYPE consent_decision AS ENUM ('granted', 'withdrawn');

CREATE TABLE consent_documents (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    code TEXT NOT NULL,
    version TEXT NOT NULL,
    required BOOLEAN NOT NULL,
    effective_from TIMESTAMPTZ(6) NOT NULL,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT consent_documents_code_version_key UNIQUE (code, version)
);

-- One row per decision, never changed: the law asks what was agreed to and when, not what is agreed to now.
CREATE TABLE consents (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    profile_id TEXT NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    document_id TEXT NOT NULL REFERENCES consent_documents (id) ON DELETE RESTRICT,
    decision consent_decision NOT NULL,
    ip_address INET,
    decided_at TIMESTAMPTZ(6) NOT NULL DEFAULT now()
);

CREATE INDEX consents_profile_document_idx ON consents (profile_id, document_id, decided_at DESC);
CREATE INDEX consents_document_id_idx ON consents (document_id);

INSERT INTO consent_documents (code, version, required, effective_from) VALUES
    ('terms-of-service', '2025-01', TRUE, '2025-02-01 00:00:00+09'),
    ('privacy-policy', '2025-01', TRUE, '2025-02-01 00:00:00+09'),
    ('marketing', '2025-01', FALSE, '2025-02-01 00:00:00+09');

-- +goose Down
DROP TABLE IF EXISTS consents;
DROP TABLE IF EXISTS consent_documents;
DROP TYPE IF EXISTS consent_decision;
