-- +goose Up

-- Transactional outbox: an event is committed with the change that it reports, and a relay publishes it
-- afterwards. The identity column gives the relay an order that timestamps cannot.
CREATE TABLE outbox_events (
    sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL DEFAULT uuid_generate_v7()::text,
    aggregate_type TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    payload JSONB NOT NULL,
    published_at TIMESTAMPTZ(6),
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT outbox_events_id_key UNIQUE (id)
);

CREATE INDEX outbox_events_unpublished_idx ON outbox_events (sequence) WHERE published_at IS NULL;

-- +goose StatementBegin
CREATE FUNCTION publish_account_change()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload)
  VALUES (
    'account', NEW.id,
    CASE TG_OP WHEN 'INSERT' THEN 'account.registered' ELSE 'account.' || NEW.status::text END,
    jsonb_build_object('handle', NEW.handle, 'status', NEW.status)
  );
  -- Wakes the relay; what it publishes comes from the table, so a lost notification loses nothing.
  PERFORM pg_notify('outbox_events', NEW.id);
  RETURN NULL;
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER accounts_publish_registration
    AFTER INSERT ON accounts
    FOR EACH ROW EXECUTE FUNCTION publish_account_change();

CREATE TRIGGER accounts_publish_status
    AFTER UPDATE OF status ON accounts
    FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION publish_account_change();

-- +goose Down
DROP TRIGGER IF EXISTS accounts_publish_status ON accounts;
DROP TRIGGER IF EXISTS accounts_publish_registration ON accounts;
DROP FUNCTION IF EXISTS publish_account_change();
DROP TABLE IF EXISTS outbox_events;
