"""What the backend reads from its environment, the values that its image was built with among it."""

from enum import StrEnum

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Environment(StrEnum):
    """Where the backend runs."""

    DEV = "dev"
    STAGE = "stage"
    PROD = "prod"


class Settings(BaseSettings):
    """Every setting, valid by construction."""

    model_config = SettingsConfigDict(extra="forbid", env_ignore_empty=True)

    environment: Environment = Environment.DEV
    port: int = Field(8000, ge=0, le=65535)
    log_level: str = "info"
    debug: bool = False
    metrics: bool = False
    seed: bool = False
    cors_origins: str = ""
    # The database of DATABASE_URL's server; whatever the address says, environments never share one.
    database_name: str = "app_dev"
    database_url: SecretStr | None = None
    # Who changes items must show it; without one, everybody may.
    api_key: SecretStr | None = None

    @field_validator("api_key")
    @classmethod
    def long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 32:
            raise ValueError("at least 32 characters")
        return key
