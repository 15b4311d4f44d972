"""The core: models, contracts, verification, measurement. It knows no pass and no device."""
