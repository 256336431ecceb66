-- +goose Up

-- A request that has not said whose data it serves sees nothing. The table's owner, who migrates, is exempt.
ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;

CREATE POLICY profiles_of_current_account ON profiles
    USING (account_id = current_setting('personal.account_id', TRUE))
    WITH CHECK (account_id = current_setting('personal.account_id', TRUE));

-- +goose Down
DROP POLICY IF EXISTS profiles_of_current_account ON profiles;
ALTER TABLE profiles DISABLE ROW LEVEL SECURITY;
