from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from prunelake.errors import validation_message


class Sizes(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sizes: list[int] = []

    @model_validator(mode="after")
    def _few(self) -> "Sizes":
        if len(self.sizes) > 2:
            raise ValueError("too many sizes")
        return self


def errors_of(value: object) -> ValidationError:
    try:
        Sizes.model_validate(value)
    except ValidationError as error:
        return error
    raise AssertionError("valid")


def test_each_problem_follows_the_path_of_its_field() -> None:
    problems = errors_of({"sizes": [1, "two"], "colour": 3}).errors()
    assert validation_message(problems) == (
        "sizes.1: Input should be a valid integer, unable to parse string as an integer; "
        "colour: Extra inputs are not permitted"
    )


def test_a_problem_of_the_whole_value_has_the_name_of_the_whole_or_none() -> None:
    problems = errors_of({"sizes": [1, 2, 3]}).errors()
    assert validation_message(problems) == "too many sizes"
    assert validation_message(problems, whole="spec") == "spec: too many sizes"


def test_a_caller_may_name_the_places() -> None:
    problems = errors_of({"colour": 3}).errors()
    named = validation_message(problems, name_of=lambda problem: f"--{problem['loc'][0]}")
    assert named == "--colour: Extra inputs are not permitted"
    assert validation_message(problems, name_of=lambda _: "") == "Extra inputs are not permitted"
