# A trap: whoever runs it is found out by the folder that it makes.
import os

os.mkdir("touched")
