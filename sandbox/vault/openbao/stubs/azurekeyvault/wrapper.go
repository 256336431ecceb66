// Package azurekeyvault stands in for automatic unsealing by a cloud's key service, which this server leaves out.
package azurekeyvault

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
	wrapping "github.com/openbao/go-kms-wrapping/v2"
)

const (
	KmsConfigKeyId              = "key_id"
	KmsConfigCryptoEndpoint     = "crypto_endpoint"
	KmsConfigManagementEndpoint = "management_endpoint"
)

type Wrapper struct{ wrapping.Wrapper }

func NewWrapper() *Wrapper { return &Wrapper{} }

func (*Wrapper) SetConfig(context.Context, ...wrapping.Option) (*wrapping.WrapperConfig, error) {
	return nil, errors.New("azurekeyvault is left out of this server")
}

func WithLogger(hclog.Logger) wrapping.Option { return func() interface{} { return nil } }
